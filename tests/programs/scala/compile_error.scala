object Main {
  val count: Int = "not a number"
}
