use lib '.';
use Beside;
print Beside::name(), "\n";
require './strict.pm';
