package main

import (
	"fmt"
	"runtime"
)

func main() {
	parts := make(chan int)
	for index := 0; index < 4; index++ {
		go func(first int) {
			runtime.LockOSThread()
			sum := 0
			for number := first; number < first+25; number++ {
				sum += number
			}
			parts <- sum
		}(25 * index)
	}
	sum := 0
	for index := 0; index < 4; index++ {
		sum += <-parts
	}
	fmt.Println("sum", sum)
}
