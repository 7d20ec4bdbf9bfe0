p require('./json'), require_relative('set')
p Kernel.require('boot') rescue puts $!.message
