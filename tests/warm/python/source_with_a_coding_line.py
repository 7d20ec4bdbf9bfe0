#!/usr/bin/env python3
# -*- coding: utf-8 -*-
print("ü", __file__)
1 / 0
