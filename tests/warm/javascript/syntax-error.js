console.log('not reached');
let x = ;
