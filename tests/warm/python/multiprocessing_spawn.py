import multiprocessing
import sys

print(__name__, __file__, flush=True)


def square(number):
    print(number * number, sys.argv, sys.path, __name__, flush=True)


if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=square, args=(3,))
    process.start()
    process.join()
    print(process.exitcode)
