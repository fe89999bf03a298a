#!/usr/bin/env python3
"""Writes entities.inc: the named character references of HTML5 and what numbers of numeric ones mean, as
html.unescape of Python's standard library knows them. Needs nothing but Python 3.

    python3 core/text/make_entities.py > core/text/entities.inc
"""
import html
from html.entities import html5

names = {}
for name, value in html5.items():
    bare = name.rstrip(";")
    points = [ord(c) for c in value]
    assert bare.isascii() and bare.isalnum() and len(bare) <= 32
    # Text never grows by unescaping: "&", the name, maybe ";" are at least as long as the value.
    assert len(points) <= 2 and len(points) <= 1 + len(bare)
    legacy, known = names.get(bare, (False, points))
    assert known == points
    names[bare] = (legacy or not name.endswith(";"), points)
for bare in names:
    assert bare + ";" in html5


def wrapped(items):
    line = ""
    for item in items:
        if len(line) + len(item) > 112:
            print(line.rstrip())
            line = ""
        line += item + " "
    print(line.rstrip())


print("/* entities.inc: written by make_entities.py; do not edit. X(name, first, second, legacy), sorted by name;")
print(" * second 0: one code point; legacy 1: known without the semicolon too. */")
print("#ifdef X")
wrapped("X(%s,%#x,%#x,%d)" % (n, p[0], p[1] if len(p) > 1 else 0, legacy) for n,
    (legacy, p) in sorted(names.items()))
print("#undef X\n#endif")
print("#ifdef Y /* Y(number, code point): numeric references that stand for another character */")
wrapped("Y(%#x,%#x)" % (n, ord(c)) for n, c in sorted(html._invalid_charrefs.items()))
print("#undef Y")
print("#endif")
print("#ifdef Z /* Z(first, last): numeric references that stand for nothing */")
spans = []
for n in sorted(html._invalid_codepoints - set(html._invalid_charrefs)):
    if spans and spans[-1][1] == n - 1:
        spans[-1][1] = n
    else:
        spans.append([n, n])
wrapped("Z(%#x,%#x)" % tuple(s) for s in spans)
print("#undef Z")
print("#endif")
