// A server that signs what it is asked to, with a key that it reads once, at its start. Nothing
// in it knows of DSO: it reads a file, says when it is healthy, and stops gracefully.
'use strict';

const { createHmac } = require('node:crypto');
const { readFileSync } = require('node:fs');
const { createServer } = require('node:http');

// The key, from the file that SIGNING_KEY_FILE names, or from SIGNING_KEY. A server without one
// must not start: its container would look healthy.
function signingKey(env) {
  const key = env.SIGNING_KEY_FILE ? readFileSync(env.SIGNING_KEY_FILE, 'utf8').trimEnd() : env.SIGNING_KEY;
  if (!key) {
    throw new Error('neither SIGNING_KEY_FILE nor SIGNING_KEY gives a key');
  }
  return key;
}

const key = signingKey(process.env);

const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://server');
  if (pathname === '/healthz') {
    response.end('ok\n');
    return;
  }
  const message = searchParams.get('message') ?? '';
  response.end(createHmac('sha256', key).update(message).digest('hex') + '\n');
});

server.listen(8080, () => console.log('listening'));

// SIGTERM comes when nobody is sent here any more. What is being answered is answered, and
// connections that wait for another request are closed; then nothing keeps the process.
process.once('SIGTERM', () => {
  console.log('stopping');
  server.close(() => console.log('stopped'));
  server.closeIdleConnections();
});
