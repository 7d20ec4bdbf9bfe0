// The object to start is named after the file, and the file may be sent as Main.scala.
class Crash {
  def main(arguments: Array[String]): Unit = throw new IllegalStateException("crash on purpose")
}

object Main extends Crash
object crash extends Crash
