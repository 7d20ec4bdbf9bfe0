def first():
    return "some words with spaces", (1, 2.5, "x"), 10**9, b"bytes"


def second():
    return "some words with spaces", (1, 2.5, "x"), 10**9, b"bytes"


print([a is b for a, b in zip(first(), second())])
print(first.__code__.co_consts, first.__code__.co_filename, first.__code__.co_lnotab if False else list(first.__code__.co_lines()))
a = "identifier"
b = "identi" + "fier"
print(a is b)
