console.log([RegExp.lastMatch, RegExp.$_, RegExp.$1, RegExp.leftContext, RegExp.rightContext]);
