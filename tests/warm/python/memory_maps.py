with open("/proc/self/maps") as maps:
    print([line for line in maps if "memfd" in line or "warm" in line])
