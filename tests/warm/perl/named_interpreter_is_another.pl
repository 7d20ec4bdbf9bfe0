#!/bin/sh
echo "shell $0 $*"
