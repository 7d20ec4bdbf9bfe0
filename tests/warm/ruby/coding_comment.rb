# -*- coding: iso-8859-1 -*-
p __ENCODING__, 'abc'.encoding
