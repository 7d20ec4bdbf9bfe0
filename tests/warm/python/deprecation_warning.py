import warnings

warnings.warn("old", DeprecationWarning)
warnings.warn("pending", PendingDeprecationWarning)
warnings.warn("used", UserWarning, stacklevel=2)
for _ in range(2):
    warnings.warn("once")
print(warnings.filters)
