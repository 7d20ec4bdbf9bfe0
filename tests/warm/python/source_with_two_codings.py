# coding: utf-8
# vim: set fileencoding=utf-16 :
print(1)
