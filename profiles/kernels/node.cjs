// Kernel of Node.js: runs cells one after another in one context, and tells what comes of them.
//
// Requests come in on descriptor 0 and messages go out on descriptor 1, a line of JSON each; README.md
// has the contract. A second thread holds both, and what the cells print: it goes on while a cell keeps
// the first one busy. Cells are evaluated as in the console of the browser that has the same engine,
// where `await` stands outside of functions and `let` and `const` may be declared again.
'use strict';

const { exit } = process;
const fs = require('fs');
const inspector = require('inspector');
const path = require('path');
const { pathToFileURL } = require('url');
const util = require('util');
const vm = require('vm');
const { spawn } = require('child_process');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

// Longest message, with its end of line; the reader takes a longer one for a broken kernel.
const LINE_BYTES = 16 << 20;
// Longest plain text of one value, and longest traceback.
const TEXT_CHARACTERS = 1 << 20;
const CHUNK_BYTES = 64 << 10;
// What a pipe can hold at most: one who goes on printing must not hold a reader up for ever.
const PIPE_BYTES = 1 << 20;
// How long small writes are gathered into one message.
const GATHER_MS = 5;
// Readers of JSON give up at some depth.
const JSON_DEPTH = 64;
// How long an interrupt may take that the signal or a message brings about.
const INTERRUPT_MS = 400;
// How long the signal may take that comes with a request to interrupt.
const SIGNAL_MS = 200;
const SIGNAL_SERVES = 1;
const DISPLAY = Symbol.for('Jupyter.display');
const METHODS = { _toHtml: 'text/html', _toSvg: 'image/svg+xml', _toPng: 'image/png', _toJpeg: 'image/jpeg' };

if (isMainThread) {
  // Called with what evaluates a text where `import()` looks for modules in the current directory.
  module.exports = (evaluate) => {
    start(evaluate).catch((error) => {
      fs.writeSync(2, `${util.inspect(error)}\n`);
      exit(1);
    });
  };
} else {
  carry();
}

/** The first thread: evaluates. */
async function start(evaluate) {
  // Before a cell can meet it: from now on a signal is what the cells' owner says.
  const cell = { running: false, interrupt: () => {}, number: 0, id: '', failed: false, signalIsLost: false };
  // How often output was drained, how many interrupts had their effect, and whether a signal alone has one.
  const shared = new Int32Array(new SharedArrayBuffer(12));
  process.on('SIGINT', () => cell.interrupt());

  const pipes = await makePipes();
  const messages = fs.openSync('/proc/self/fd/1', 'w');
  const requests = fs.openSync('/proc/self/fd/0', 'r');
  // The lowest free number is taken, so each is what was just closed.
  for (const [descriptor, file, flags] of [[0, '/dev/null', 'r'], [1, pipes[0].writer, 'w'], [2, pipes[1].writer, 'w']]) {
    fs.closeSync(descriptor);
    fs.openSync(typeof file === 'number' ? `/proc/self/fd/${file}` : file, flags);
  }
  const wire = new Worker(__filename, {
    workerData: { requests, messages, shared, readers: pipes.map(({ reader }) => reader) },
    stdout: false,
    stderr: false,
  });
  const tell = (kind, content) => wire.postMessage({ kind, content });
  // Returns when all that was printed until now has been told.
  const drain = (parent) => {
    const before = Atomics.load(shared, 0);
    wire.postMessage({ drain: true, parent });
    Atomics.wait(shared, 0, before);
  };
  keepOrder(drain);
  process.exit = (code = process.exitCode ?? 0) => {
    const error = new Error(`process.exit(${code}) was called: the kernel goes on`);
    error.name = 'ProcessExit';
    throw error;
  };
  const fail = (error) => {
    if (cell.running) cell.failed = true;
    tell('error', describe(error));
  };
  process.on('unhandledRejection', fail);
  process.on('uncaughtException', fail);

  const display = (value, options) => {
    const forms = bundle(value, options);
    if (typeof forms.then === 'function') return forms.then((data) => tell('display_data', { data, metadata: {} }));
    tell('display_data', { data: forms, metadata: {} });
    return undefined;
  };
  define('display', display);
  define('__import', importer(evaluate), false);
  const session = new inspector.Session();
  session.connect();
  const evaluateCell = evaluator(session, cell, shared);

  for await (const request of queue(wire, cell)) {
    const { code, execution_count: count } = request.content;
    cell.running = true;
    cell.failed = false;
    cell.interrupt = () => {};
    cell.number = count;
    cell.id = request.msg_id;
    drain(request.msg_id);
    tell('status', { execution_state: 'busy' });
    let status = 'ok';
    try {
      const value = await evaluateCell(code);
      if (value !== undefined) {
        const data = await interruptible(cell, shared, bundle(value));
        define('_', value, true);
        tell('execute_result', { data, metadata: {}, execution_count: count });
      }
    } catch (error) {
      tell('error', describe(error));
      status = 'error';
    }
    // Promises that were rejected and left alone are told of when the engine gets to it.
    await new Promise((resolve) => setImmediate(resolve));
    cell.running = false;
    if (cell.signalIsLost) takeSignal();
    cell.signalIsLost = false;
    if (cell.failed) status = 'error';
    tell('execute_reply', { status, execution_count: count });
    tell('status', { execution_state: 'idle' });
  }
  exit(0);
}

/** Requests as they come; ends with the last one. */
async function* queue(wire, cell) {
  const waiting = [];
  let wake = () => {};
  wire.on('message', (message) => {
    if (message?.interrupt) {
      // The signal that came with it may have been lost, where a script ended just then.
      if (cell.running && message.interrupt === cell.id) {
        cell.signalIsLost = true;
        cell.interrupt();
      }
      return;
    }
    waiting.push(message);
    wake();
  });
  for (;;) {
    while (waiting.length === 0) await new Promise((resolve) => (wake = resolve));
    const message = waiting.shift();
    if (message === null) return;
    yield message;
  }
}

/**
 * Two pipes. Node can't make any, but open those of another process: a shell makes them, tells its number
 * and waits until they are open here. A socket would not do: programs open /dev/stderr.
 */
function makePipes() {
  const script = ': | { exec 4<&0; : | { exec 5<&0; exec /bin/sh -c \'echo $$ >&2; read hold <&3\'; }; }';
  return new Promise((resolve, reject) => {
    const shell = spawn('/bin/sh', ['-c', script], { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] });
    let told = '';
    shell.on('error', reject);
    shell.on('exit', () => reject(new Error(`no pipes can be made: ${told}`)));
    shell.stderr.on('data', (data) => {
      told += data;
      if (!told.endsWith('\n')) return;
      try {
        const open = (number, flags) => fs.openSync(`/proc/${told.trim()}/fd/${number}`, flags);
        const { O_RDONLY, O_NONBLOCK } = fs.constants;
        // The reader first: a pipe without one can't be opened for writing.
        resolve([4, 5].map((number) => ({ reader: open(number, O_RDONLY | O_NONBLOCK), writer: open(number, 'w') })));
      } catch (error) {
        reject(error);
      }
      shell.stdio[3].destroy();
    });
  });
}

/**
 * Makes writes to the standard streams take effect at once, and the two of them keep their order. The
 * streams' own way would be left in pieces by an interrupt.
 */
function keepOrder(drain) {
  let latest;
  for (const stream of [process.stdout, process.stderr]) {
    const { fd, write } = stream;
    // Also for children, who get the same open file.
    stream._handle?.setBlocking?.(true);
    stream.write = function (chunk, encoding, callback) {
      if (typeof chunk !== 'string' && !ArrayBuffer.isView(chunk)) return write.call(this, chunk, encoding, callback);
      // Two pipes don't know which was written first.
      if (latest !== undefined && latest !== stream) drain();
      latest = stream;
      const data = typeof chunk === 'string' ? Buffer.from(chunk, typeof encoding === 'string' ? encoding : 'utf8') : chunk;
      writeAll(fd, data);
      const written = typeof encoding === 'function' ? encoding : callback;
      if (typeof written === 'function') process.nextTick(written);
      return true;
    };
  }
}

function writeAll(descriptor, data) {
  for (let at = 0; at < data.byteLength; ) {
    try {
      at += fs.writeSync(descriptor, data, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
      // A child has made the open file that it shares with this process one that does not block.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

/** A global that a cell may put another value in the place of. */
function define(name, value, enumerable = false) {
  Object.defineProperty(globalThis, name, { value, enumerable, configurable: true, writable: true });
}

/** `import()` for cells, which have no place that theirs could start from. */
function importer(evaluate) {
  let load;
  try {
    load = evaluate('(name, options) => import(name, options)');
  } catch {
    // Node.js 16 knows no second argument.
    load = evaluate('(name) => import(name)');
  }
  return (name, options) => {
    const text = String(name);
    const isPath = /^\.{0,2}\//.test(text);
    return load(isPath ? pathToFileURL(path.resolve(text)).href : text, options);
  };
}

/** Thrown out of a cell by its owner. */
class Interrupt extends Error {}

/** Waits for a promise, or for an interrupt. */
function interruptible(cell, shared, promise) {
  return new Promise((resolve, reject) => {
    cell.interrupt = () => {
      if (!cell.running) return;
      Atomics.add(shared, 1, 1);
      reject(new Interrupt());
    };
    Promise.resolve(promise).then(resolve, reject);
  });
}

/** A signal that came when a script was just over may break the next one; here is one for it to break. */
function takeSignal() {
  const script = new vm.Script(`{ const end = Date.now() + ${SIGNAL_MS}; while (Date.now() < end); }`);
  try {
    script.runInThisContext({ breakOnSigint: true, displayErrors: false });
  } catch {
    // It was there.
  }
}

/** What evaluates a cell's code and gives the value of its last expression, awaited. */
function evaluator(session, cell, shared) {
  let handed;
  const hand = (value) => {
    handed = value;
  };
  define('__hand', hand);
  let handId;
  session.post('Runtime.evaluate', { expression: '__hand' }, (_, { result }) => {
    handId = result.objectId;
  });
  delete globalThis.__hand;
  // The value itself, of which the engine gives a description.
  const take = ({ objectId, unserializableValue, value }) => {
    const argument = objectId ? { objectId } : unserializableValue ? { unserializableValue } : { value };
    session.post('Runtime.callFunctionOn', {
      functionDeclaration: 'function (value) { this(value); }',
      objectId: handId,
      arguments: [argument],
    });
    const taken = handed;
    handed = undefined;
    return taken;
  };
  return async (code) => {
    const expression = `${rewrite(code)}\n//# sourceURL=cell-${cell.number}`;
    const params = { expression, replMode: true, awaitPromise: true, objectGroup: 'cell' };
    let settle;
    const done = new Promise((resolve, reject) => {
      settle = (error, result) => (error ? reject(error) : resolve(result));
    });
    // Where an interrupt ends it, nobody waits for it.
    done.catch(() => {});
    define('__run', () => session.post('Runtime.evaluate', params, settle));
    const script = new vm.Script('__run()', { filename: 'kernel' });
    try {
      Atomics.store(shared, 2, SIGNAL_SERVES);
      script.runInThisContext({ breakOnSigint: true, displayErrors: false });
    } catch (error) {
      if (error?.code !== 'ERR_SCRIPT_EXECUTION_INTERRUPTED') throw error;
      Atomics.add(shared, 1, 1);
      throw new Interrupt();
    } finally {
      Atomics.store(shared, 2, 0);
      delete globalThis.__run;
    }
    const { result, exceptionDetails } = await interruptible(cell, shared, done).catch((error) => {
      if (error instanceof Interrupt) throw error;
      // The engine does not evaluate any more, as after a cell that has sent a deadly signal to itself.
      exit(1);
    });
    try {
      if (exceptionDetails) throw located(take(exceptionDetails.exception ?? result), exceptionDetails, code, cell.number);
      // Of a promise that nobody awaits a cell's reader could never see the value.
      const value = take(result);
      return util.types.isPromise(value) ? await interruptible(cell, shared, value) : value;
    } finally {
      session.post('Runtime.releaseObjectGroup', { objectGroup: 'cell' });
    }
  };
}

/** An error of syntax in a cell's own text does not say where it is. */
function located(error, { lineNumber, columnNumber }, code, number) {
  const isOfCell = util.types.isNativeError(error) && /^SyntaxError: .*\n\s+at Session\.post \(/.test(error.stack);
  if (isOfCell) {
    const line = code.split('\n')[lineNumber] ?? '';
    const where = `cell-${number}:${lineNumber + 1}\n${line}\n${' '.repeat(columnNumber)}^\n\n`;
    error.stack = `${where}SyntaxError: ${error.message}`;
  }
  return error;
}

/**
 * Puts what this kernel can do in the place of what a script can't: `import()`, and `import` statements
 * outside of functions. Goes through the text token by token; what it does not understand stays.
 */
function rewrite(code) {
  if (!/\bimport\b/.test(code)) return code;
  const token =
    /\/\/[^\n]*|\/\*[^]*?\*\/|'(?:\\[^]|[^'\\\n])*'|"(?:\\[^]|[^"\\\n])*"|[$\w\u0080-\uffff]+|\.\.\.|\?\.|\+\+|--|=>|\s+|[^]/gy;
  const statement =
    /import\s+(?:([$\w]+)\s*,?\s*)?(?:\*\s*as\s+([$\w]+)|\{([^}]*)\})?\s*(?:from\s*)?('[^'\n]*'|"[^"\n]*")(?:\s*(?:with|assert)\s*(\{[^}]*\}))?[ \t]*(?:;|(?=\n)|$)/y;
  const regex = /\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*/y;
  const template = /(?:\\[^]|\$(?!\{)|[^`\\$])*(`|\$\{)/y;
  const before = /^(?:return|typeof|case|in|of|delete|void|throw|new|else|do|instanceof|yield|await)$/;
  // Braces that are open; those of a template's parts go back to its text when they close.
  const open = [];
  let [out, last, at] = ['', '', 0];
  const copy = (length) => {
    out += code.slice(at, (at += length));
  };
  const matches = (pattern) => {
    pattern.lastIndex = at;
    return pattern.exec(code);
  };
  const text = () => {
    const found = matches(template);
    copy(found ? found[0].length : code.length - at);
    if (found?.[1] === '${') open.push('${');
    last = found?.[1] === '${' ? '{' : '`';
  };
  while (at < code.length) {
    const [found] = matches(token);
    if (/^(?:\s|\/\/|\/\*)/.test(found)) {
      copy(found.length);
      continue;
    }
    const startsValue = last === '' || before.test(last) || /^(?:[^\w$\u0080-\uffff)\]}'"`]|=>|\?\.|\.\.\.)/.test(last);
    if (found === '/' && startsValue && matches(regex)) {
      copy(matches(regex)[0].length);
      last = ')';
      continue;
    }
    if (found === '`') {
      copy(1);
      text();
      continue;
    }
    if (found === 'import' && last !== '.' && last !== '?.') {
      const call = /^import\s*\(/.test(code.slice(at, at + 100));
      const declared = open.length === 0 && !call && matches(statement);
      if (declared) {
        out += declaration(declared);
        at += declared[0].length;
        last = ';';
        continue;
      }
      if (call) {
        out += '__import';
        at += found.length;
        last = found;
        continue;
      }
    }
    copy(found.length);
    last = found;
    if (found === '{' || found === '(' || found === '[') open.push(found);
    if (found === '}' && open.pop() === '${') text();
    if (found === ')' || found === ']') open.pop();
  }
  return out;
}

/** An `import` statement, on as many lines, as a declaration that may be made again. */
function declaration([whole, byDefault, all, names, from, attributes]) {
  const loaded = `await __import(${from}${attributes ? `, { with: ${attributes} }` : ''})`;
  const lines = '\n'.repeat(whole.split('\n').length - 1);
  const parts = [];
  if (byDefault) parts.push(`default: ${byDefault}`);
  if (names) parts.push(...names.split(',').map((name) => name.trim().replace(/\s+as\s+/, ': ')).filter(Boolean));
  const some = `const { ${parts.join(', ')} } = `;
  if (all) return `const ${all} = ${loaded};${byDefault ? `${some}${all};` : ''}${lines}`;
  return `${parts.length > 0 ? some : ''}${loaded};void 0;${lines}`;
}

/** The forms in which a value can be shown, by MIME type; a promise of them where it takes time. */
function bundle(value, { raw = false } = {}) {
  if (raw || isBundle(value)) return clean(value);
  const forms = {};
  if (value !== null && (typeof value === 'object' || typeof value === 'function')) {
    if (typeof value[DISPLAY] === 'function') return Promise.resolve(value[DISPLAY]()).then(clean);
    if (typeof value._toMime === 'function') Object.assign(forms, value._toMime());
    for (const [name, kind] of Object.entries(METHODS)) {
      if (typeof value[name] === 'function') forms[kind] = value[name]();
    }
  }
  forms['text/plain'] ??= cut(util.inspect(value));
  return clean(forms);
}

function isBundle(value) {
  if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype) return false;
  const keys = Object.keys(value);
  return keys.length > 0 && keys.every((key) => /^(?:text|image|application|audio|video)\/[-.+\w]+$/.test(key));
}

function cut(text) {
  return text.length > TEXT_CHARACTERS ? `${text.slice(0, TEXT_CHARACTERS)}… (${text.length} characters)` : text;
}

/** A value as JSON has it, whatever it was. */
function clean(value, depth = 0) {
  if (value === null || ['string', 'boolean', 'number'].includes(typeof value)) return value;
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
  if (typeof value !== 'object' || depth >= JSON_DEPTH) return cut(util.inspect(value));
  if (typeof value.toJSON === 'function') return clean(value.toJSON(), depth + 1);
  if (Array.isArray(value)) return value.map((item) => clean(item, depth + 1));
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, clean(item, depth + 1)]));
}

/** An error as the cells' owner is told of it. */
function describe(error) {
  if (error instanceof Interrupt) return { ename: 'KeyboardInterrupt', evalue: '', traceback: ['KeyboardInterrupt'] };
  let [name, message, text] = ['Error', '', ''];
  try {
    if (util.types.isNativeError(error)) {
      name = String(error.name);
      message = String(error.message);
    } else {
      name = error?.constructor?.name ?? typeof error;
      message = typeof error === 'string' ? error : util.inspect(error);
    }
    trim(error);
    text = typeof error === 'string' ? `Uncaught ${util.inspect(error)}` : util.inspect(error);
  } catch {
    text = 'an error that can not be shown';
  }
  return { ename: cut(name), evalue: cut(message), traceback: cut(text).split('\n') };
}

/** Takes the frames that come after the cell's own out of an error, and out of those it stems from. */
function trim(error, depth = 0) {
  if (!util.types.isNativeError(error) || typeof error.stack !== 'string' || depth > 8) return;
  let isOurs = false;
  const lines = error.stack.split('\n').filter((line) => {
    isOurs = /^\s+at /.test(line) && (isOurs || /\bat Session\.post \(/.test(line) || line.includes(__filename));
    return !isOurs;
  });
  error.stack = lines.join('\n');
  for (const other of [error.cause, ...(Array.isArray(error.errors) ? error.errors : [])]) trim(other, depth + 1);
}

/** The second thread: reads requests and what the cells print, and writes messages. */
function carry() {
  const net = require('net');
  const { StringDecoder } = require('string_decoder');
  const { requests, messages, shared, readers } = workerData;
  const chunk = Buffer.alloc(CHUNK_BYTES);
  let parent = null;
  let isIdle = true;
  let gathered = { name: '', text: '' };
  let timer;

  const write = (kind, content) => {
    let line = encode(kind, content);
    if (line.length > LINE_BYTES) {
      const text = `[${kind} of ${line.length} bytes was left out: too long]\n`;
      line = encode('stream', { name: 'stderr', text });
    }
    writeAll(messages, line);
  };
  const encode = (kind, content) => {
    const text = JSON.stringify({ parent_id: parent, msg_type: kind, content });
    // Half of a pair is no text, and JSON's way to write it is refused by most who read it.
    return Buffer.from(`${text.replace(/\\\\|\\(?=ud[89a-f])/g, (found) => (found.length > 1 ? found : '\\\\'))}\n`);
  };
  const flush = () => {
    clearTimeout(timer);
    timer = undefined;
    if (gathered.text !== '') write('stream', gathered);
    gathered = { name: '', text: '' };
  };
  const gather = (name, text) => {
    if (gathered.name !== name) flush();
    gathered = { name, text: gathered.text + text };
    if (gathered.text.length > CHUNK_BYTES) flush();
    else timer ??= setTimeout(flush, GATHER_MS);
  };
  const captures = readers.map((reader, index) => {
    const name = ['stdout', 'stderr'][index];
    const capture = { name, reader, decoder: new StringDecoder('utf8') };
    new net.Socket({ fd: reader, readable: true, writable: false }).on('data', (data) => {
      gather(name, capture.decoder.write(data));
    });
    return capture;
  });
  const drain = () => {
    for (const { name, reader, decoder } of captures) {
      for (let taken = 0; taken < PIPE_BYTES; ) {
        let count;
        try {
          count = fs.readSync(reader, chunk);
        } catch {
          // Nothing is there.
          break;
        }
        if (count === 0) break;
        taken += count;
        gather(name, decoder.write(chunk.subarray(0, count)));
      }
    }
    flush();
  };
  parentPort.on('message', (message) => {
    drain();
    if (message.parent) parent = message.parent;
    if (message.kind === 'status') isIdle = message.content.execution_state === 'idle';
    if (message.kind) write(message.kind, message.content);
    if (message.drain) {
      Atomics.add(shared, 0, 1);
      Atomics.notify(shared, 0);
    }
  });

  const session = new inspector.Session();
  session.connectToMainThread();
  // The signal breaks a cell's own loop, and the message a wait. Neither reaches a loop that begins after
  // an `await`, and a signal that comes while it is nobody's is lost.
  const interrupt = (id) => {
    const before = Atomics.load(shared, 1);
    const isOver = () => Atomics.load(shared, 1) !== before || parent !== id || isIdle;
    const insist = () => {
      if (isOver()) return;
      // Both at one time would be too much for the engine.
      if (Atomics.load(shared, 2) === SIGNAL_SERVES) spawn('/bin/sh', ['-c', `kill -INT ${process.pid}`], { stdio: 'ignore' });
      else session.post('Runtime.terminateExecution');
      setTimeout(insist, INTERRUPT_MS);
    };
    // Not at once: a signal that comes after the message has had its effect would hit the next cell.
    setTimeout(() => {
      if (!isOver()) parentPort.postMessage({ interrupt: id });
      setTimeout(insist, INTERRUPT_MS);
    }, SIGNAL_MS);
  };
  const receive = (line) => {
    const request = JSON.parse(line);
    if (request.msg_type === 'execute_request') parentPort.postMessage(request);
    if (request.msg_type === 'interrupt_request') interrupt(request.content.msg_id);
  };
  let pieces = [];
  const input = new net.Socket({ fd: requests, readable: true, writable: false });
  input.on('data', (data) => {
    for (let end = data.indexOf(10); end >= 0; end = data.indexOf(10)) {
      receive(Buffer.concat([...pieces, data.subarray(0, end)]).toString());
      pieces = [];
      data = data.subarray(end + 1);
    }
    pieces.push(data);
  });
  input.on('end', () => parentPort.postMessage(null));
}
