VALUE = 5
import other
