def inner(value):
    return [1 / number for number in value]


def outer():
    return inner([1, 0])


outer()
