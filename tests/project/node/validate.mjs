// Reads an AsyncAPI document; prints what the official schema of AsyncAPI 3.0.0 has against it, as JSON.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(process.argv[2] + '/');
const schema = JSON.parse(readFileSync(require.resolve('@asyncapi/specs/schemas/3.0.0-without-$id.json')));
const Ajv = require('ajv');
const validate = new Ajv({ strict: false, allErrors: true, validateFormats: false, logger: false }).compile(schema);
validate(JSON.parse(readFileSync(0)));
console.log(JSON.stringify(validate.errors ?? []));
