import sys
from concurrent.futures import InterpreterPoolExecutor


def work(number):
    return number * 2, __name__


if __name__ == "__main__":
    with InterpreterPoolExecutor(1) as pool:
        print(list(pool.map(work, range(3))))
