import os

print(oct(os.umask(0)), sorted(os.listdir("/workspace")), oct(os.stat(__file__).st_mode))
print(os.readlink("/proc/self/cwd"), os.readlink("/proc/self/exe"), os.readlink("/proc/self/fd/0")[:5])
