import locale
import time

print(locale.setlocale(locale.LC_ALL, None), locale.getpreferredencoding(), time.tzname)
