-- Parameters that the methods which look at images share.
return {
    images = { name = "images", text = "split whose images a recipe takes, without their labels",
        default = "train", choices = { "train", "validation", "test" } },
}
