console.log(Object.keys(process).join(), process.mainModule === module, process.exitCode, process.ppid > 0, process.umask());
console.log(process._eventsCount, process.getActiveResourcesInfo(), process._getActiveHandles().length, process._getActiveRequests().length);
console.log(process.features, process.config.variables.napi_build_version, process.release.name, process.versions.node, process.report?.reportOnSignal);
console.log(process.domain, process.connected, process.channel, process.noDeprecation, process.throwDeprecation, process.traceDeprecation);
