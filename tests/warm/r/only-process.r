print(list.files("/proc", "^[0-9]+$"))
