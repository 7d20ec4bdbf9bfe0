import threading


def late():
    threading.main_thread().join()
    print("thread", threading.main_thread().is_alive())


threading.Thread(target=late).start()
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(threading.current_thread().name, threading.active_count())
