import threading

parts = [0] * 4


def add(index):
    parts[index] = sum(range(25 * index, 25 * index + 25))


threads = [threading.Thread(target=add, args=(index,)) for index in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("sum", sum(parts))
