// Plays a browser page: fetches all flags, asks again (304), waits for the event stream to announce an edit, and prints what it saw.
// usage: ofrep_web.mjs BASE_URL; a line on standard input says that the definitions are being edited.
import { EventSource } from 'eventsource';
import { once } from 'node:events';
import { OpenFeature, ProviderEvents } from '@openfeature/web-sdk';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';

globalThis.EventSource = EventSource;
const statuses = [];
const fetchImplementation = async (...request) => {
  const answer = await fetch(...request);
  statuses.push(answer.status);
  return answer;
};
const context = { targetingKey: 'u1', country: 'DE' };
await OpenFeature.setContext(context);
const provider = new OFREPWebProvider({ baseUrl: process.argv[2], fetchImplementation, cacheMode: 'disabled' });
await OpenFeature.setProviderAndWait(provider);
const client = OpenFeature.getClient();
const shown = (details) => [details.value, details.variant ?? null, details.reason, details.errorCode ?? null];
const first = {
  boolean: shown(client.getBooleanDetails('bool-flag', false)),
  string: shown(client.getStringDetails('string-flag', 'default')),
  integer: shown(client.getNumberDetails('int-flag', 0)),
  float: shown(client.getNumberDetails('float-flag', 0)),
  object: shown(client.getObjectDetails('object-flag', {})),
  targeted: shown(client.getStringDetails('target-flag', 'default')),
  missing: shown(client.getBooleanDetails('no-such-flag', true)),
};
await OpenFeature.setContext({ ...context });
const changed = new Promise((resolve) => client.addHandler(ProviderEvents.ConfigurationChanged, resolve));
console.log('connected');
await once(process.stdin, 'data');
await changed;
console.log(JSON.stringify({ first, statuses, after: client.getStringValue('string-flag', 'default') }));
process.exit(0);
