# Semaphores and shared memory live in /dev/shm, which the jail must offer.
# (Not named multiprocessing.py: a program must not hide the module it wants.)
from multiprocessing import Pool
from multiprocessing.shared_memory import SharedMemory


def fill(task):
    name, index = task
    block = SharedMemory(name=name)
    block.buf[index] = index * index
    block.close()


if __name__ == "__main__":
    block = SharedMemory(create=True, size=64)
    with Pool(3) as pool:
        pool.map(fill, [(block.name, index) for index in range(10)])
    ok = list(block.buf[:10]) == [index * index for index in range(10)]
    block.close()
    block.unlink()
    print("pool ok" if ok else "pool wrong")
