// The object to start is named after the file, and the file may be sent as Main.scala.
class Echo {
  def main(arguments: Array[String]): Unit = {
    val buffer = new Array[Byte](65536)
    Iterator.continually(System.in.read(buffer)).takeWhile(_ >= 0).foreach(System.out.write(buffer, 0, _))
    System.out.flush()
  }
}

object Main extends Echo
object echo extends Echo
