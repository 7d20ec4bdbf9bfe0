"""Runs scenarios written for the NixOS test driver on one machine of Debian, under QEMU."""
