// Exits with 0 when the server answers. The image may have no curl.
'use strict';

require('node:http')
  .get('http://127.0.0.1:8080/healthz', (response) => process.exit(response.statusCode === 200 ? 0 : 1))
  .on('error', () => process.exit(1));
