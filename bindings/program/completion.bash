# Completion of distac(1) for bash.
_distac() {
    local current=${COMP_WORDS[COMP_CWORD]}
    local commands="run plan merge translate condition finetune eval norms inspect convert head data version"
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        if [[ $current == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "-e -i -l -v --help" -- "$current")
            return
        fi
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current"; compgen -f -X '!*.lua' -- "$current"; compgen -d -- "$current")
        return
    fi
    if [ "${COMP_WORDS[COMP_CWORD - 1]}" = --method ] || [ "${COMP_WORDS[COMP_CWORD - 1]}" = -M ]; then
        mapfile -t COMPREPLY < <(compgen -W "average task_arithmetic ties consensus_ta tsvm iso_c iso_cts knots wudi \
            tall_mask dare dare_ties lines slerp nuslerp model_stock breadcrumbs della pcb" -- "$current")
        return
    fi
    if [[ $current == -* ]]; then
        local common="--set --out --device --threads --memory --seed --json --quiet --help"
        case ${COMP_WORDS[1]} in
            merge)
                common="$common --base --method --lambda --only --except --scale --dtype --to --shard --missing-from-base"
                common="$common --dry-run --replay --models --force -o"
                ;;
            translate) common="$common --layers --lua" ;;
            convert)
                common="$common --to --dtype --activation --text-activation --attention-heads --text-heads --shard"
                common="$common --force"
                ;;
            data) common="$common --set --decode --force" ;;
            condition) common="$common --base --head --images --kappa --t-teacher --t-student --beta --steps --force -o" ;;
            eval) common="$common --suite --data --head" ;;
            head) common="$common --model --tokenizer --dataset --classes --templates --activation --force -o" ;;
            norms) common="$common --base" ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$common" -- "$current")
        return
    fi
    if [ "$COMP_CWORD" -eq 2 ] && [ "${COMP_WORDS[1]}" = data ]; then
        mapfile -t COMPREPLY < <(compgen -W "check split" -- "$current")
        return
    fi
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
}
complete -o filenames -F _distac distac
