p require('json'), require('set'), require('json'), JSON.generate([1])
p $LOADED_FEATURES.grep(/warm/)
