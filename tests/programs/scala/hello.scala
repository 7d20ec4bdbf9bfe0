// The object to start is named after the file, and the file may be sent as Main.scala.
class Hello {
  def main(arguments: Array[String]): Unit = println("hello from scala")
}

object Main extends Hello
object hello extends Hello
