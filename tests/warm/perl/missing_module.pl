use strict;
use Nothing::Of::The::Kind;
