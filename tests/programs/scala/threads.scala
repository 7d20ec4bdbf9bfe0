// The object to start is named after the file, and the file may be sent as Main.scala.
class Threads {
  def main(arguments: Array[String]): Unit = {
    val parts = new Array[Int](4)
    val started = (0 until 4).map { index =>
      val thread = new Thread(new Runnable {
        def run(): Unit = parts(index) = (25 * index until 25 * index + 25).sum
      })
      thread.start()
      thread
    }
    started.foreach(_.join())
    println("sum " + parts.sum)
  }
}

object Main extends Threads
object threads extends Threads
