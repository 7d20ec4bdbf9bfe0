Error.prepareStackTrace = (error, sites) =>
  sites.map((site) => [site.getFunctionName(), site.getTypeName(), site.getMethodName(), site.getFileName(), site.getLineNumber()]);
Error.stackTraceLimit = 100;
console.log(new Error().stack);
console.log(arguments.callee.caller, arguments.length, (function () { return arguments.callee.caller === null; })());
