import multiprocessing


def work(queue):
    queue.put(__name__)


if __name__ == "__main__":
    print(multiprocessing.get_start_method())
    queue = multiprocessing.SimpleQueue()
    process = multiprocessing.Process(target=work, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
    print(process.exitcode)
