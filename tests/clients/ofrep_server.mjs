// Evaluates one flag of each type through the OpenFeature server SDK and prints what it got. usage: ofrep_server.mjs BASE_URL
import { OpenFeature } from '@openfeature/server-sdk';
import { OFREPProvider } from '@openfeature/ofrep-provider';

await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: process.argv[2] }));
const client = OpenFeature.getClient();
const context = { targetingKey: 'u1', country: 'DE' };
const shown = (details) => [details.value, details.variant ?? null, details.reason, details.errorCode ?? null];
console.log(JSON.stringify({
  boolean: shown(await client.getBooleanDetails('bool-flag', false, context)),
  string: shown(await client.getStringDetails('string-flag', 'default', context)),
  integer: shown(await client.getNumberDetails('int-flag', 0, context)),
  float: shown(await client.getNumberDetails('float-flag', 0, context)),
  object: shown(await client.getObjectDetails('object-flag', {}, context)),
  targeted: shown(await client.getStringDetails('target-flag', 'default', context)),
  missing: shown(await client.getBooleanDetails('no-such-flag', true, context)),
  mismatch: shown(await client.getBooleanDetails('string-flag', true, context)),
  no_key: shown(await client.getStringDetails('split-flag', 'default', {})),
}));
