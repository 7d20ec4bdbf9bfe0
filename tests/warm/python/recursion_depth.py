import sys

deepest = 0


def down(n):
    global deepest
    deepest = n
    down(n + 1)


try:
    down(0)
except RecursionError as error:
    print(error, deepest, sys.getrecursionlimit())
