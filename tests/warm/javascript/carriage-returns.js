'use strict';
console.log(`a
b`.length);
undefined_name;
