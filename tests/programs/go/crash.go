package main

func main() {
	panic("crash on purpose")
}
