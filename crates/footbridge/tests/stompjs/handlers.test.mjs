// A service in another language behind /app, made by the .proto file alone: what clients see when it is down,
// slow, or answers nonsense, and who may come in.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { Session, unique } from './clients.mjs';
import { Log, Node } from './node.mjs';

const protos = fileURLToPath(new URL('../../../../proto/', import.meta.url));
const { footbridge } = grpc.loadPackageDefinition(
  loadSync('footbridge/v1/application.proto', { includeDirs: [protos], keepCase: true }),
);

const seen = new Log();
const gone = new Log();
const handlers = {
  connect({ request }, answer) {
    const [device] = request.query;
    if (device?.value === 'banned') return answer(null, { refusal: { reason: 'not with that device' } });
    const attributes = { fields: { device: { stringValue: device?.value ?? 'none' } } };
    return answer(null, { attributes });
  },
  message({ request }, answer) {
    seen.add(request);
    const send = (message) => answer(null, { sends: [{ session: '/queue/reply', message }] });
    switch (request.path) {
      case 'device': return send({ text: request.caller.attributes.fields.device.stringValue });
      case 'slow': return undefined;
      case 'nonsense': return send({ text: 'x', headers: [{ name: 'message-id', value: 'x' }] });
      case 'crash': return answer({ code: grpc.status.INTERNAL, details: 'at secret.js:1' });
      case 'refused': return answer({ code: grpc.status.FAILED_PRECONDITION, details: 'not now' });
      default: return answer({ code: grpc.status.UNIMPLEMENTED });
    }
  },
  subscribe(_, answer) {
    answer(null, { messages: [{ json: '{"n":1}' }] });
  },
  disconnect({ request }, answer) {
    gone.add(request);
    answer(null, {});
  },
};

/** Serves at that address; resolves to the server and its port. */
async function serve(address) {
  const server = new grpc.Server();
  server.addService(footbridge.v1.Application.service, handlers);
  const port = await new Promise((resolve, reject) => {
    const bound = (error, at) => (error ? reject(error) : resolve(at));
    server.bindAsync(address, grpc.ServerCredentials.createInsecure(), bound);
  });
  return { server, port };
}

let service;
let node;
before(async () => {
  service = await serve('127.0.0.1:0');
  const route = `{prefix="/app",grpc=["http://127.0.0.1:${service.port}"],timeout="1s",hook="optional"}`;
  node = await Node.start({
    env: { FOOTBRIDGE_APPLICATION__ROUTES: `[${route}]`, FOOTBRIDGE_APPLICATION__HOOK_QUERY: '["device"]' },
  });
});
after(async () => {
  await node.stop();
  service.server.forceShutdown();
});

/** Publishes to /app; resolves to the code of error in the receipt, if any. */
async function failure(session, path) {
  const { headers } = await session.receipted((receipt) => {
    session.client.publish({ destination: `/app/${path}`, body: 'x', headers: receipt });
  });
  return headers.error;
}

test('a service that is slow, broken, or answers nonsense is told of to who asked, and nothing leaks', async (t) => {
  const session = await Session.connect(t, node.url);
  const other = await Session.connect(t, node.url);
  const [errors, others] = [await session.subscribe('/user/queue/errors'), await other.subscribe('/user/queue/errors')];
  const replies = await session.subscribe('/user/queue/reply');
  for (const [path, code, words] of [
    ['slow', 'timed_out', /in time/],
    ['nonsense', 'bad_answer', /no sense/],
    ['crash', 'failed', /failed/],
    ['refused', 'failed_precondition', /^not now$/],
    ['none', 'no_handler', /\/app\/none/],
  ]) {
    const before = errors.length;
    assert.equal(await failure(session, path), code);
    assert.equal(errors[before].headers.error, code);
    assert.match(errors[before].body, words);
    assert.doesNotMatch(errors[before].body, /secret|127\.0\.0\.1/);
  }
  assert.equal(replies.length + others.length, 0);
  const initial = await session.subscribe('/app/state');
  assert.equal(initial[0].body, '{"n":1}');
});

test('a service that is down is told of at once, and used again once it is back', async (t) => {
  const session = await Session.connect(t, node.url);
  service.server.forceShutdown();
  // The first may have found the connection not yet broken.
  const down = [await failure(session, 'refused'), await failure(session, 'refused')];
  assert.equal(down[1], 'unavailable', down.join());
  // The hook is optional.
  await Session.connect(t, node.url);
  service = await serve(`127.0.0.1:${service.port}`);
  let back;
  do back = await failure(session, 'refused'); while (back === 'unavailable');
  assert.equal(back, 'failed_precondition');
});

test('the hook sees the device, annotates the session, may refuse it, and hears of its end', async (t) => {
  const login = unique('ann');
  const session = await Session.connect(t, `${node.url}?device=phone&other=x`, { connectHeaders: { login } });
  const replies = await session.subscribe('/user/queue/reply');
  await session.publish('/app/device', '');
  assert.equal(replies[0].body, 'phone');
  assert.equal(seen.at(-1).caller.user, login);
  session.break();
  await gone.until((ended) => ended.some(({ caller }) => caller.user === login), 'word of the end');
  const refused = new Session(`${node.url}?device=banned`);
  t.after(() => refused.client.deactivate({ force: true }));
  refused.client.activate();
  const { headers } = await refused.errors.item(0, 'an ERROR');
  assert.match(headers.message, /not with that device/);
  assert.equal((await refused.closed.item(0)).code, 4403);
});
