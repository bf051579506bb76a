import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { parseOptions } from '../src/options.mjs';
import { ProcessMeter } from '../src/process-meter.mjs';

test('a process is its number, or NAME=PID', () => {
  const { pids, apart } = parseOptions(['--pids', 'edge=12,13', '--apart', 'dynamodb=14'], {});
  assert.deepEqual(pids, [{ name: 'edge', pid: 12 }, { name: undefined, pid: 13 }]);
  assert.deepEqual(apart, [{ name: 'dynamodb', pid: 14 }]);
  assert.throws(() => parseOptions(['--pids', 'edge=x'], {}), /a process is PID or NAME=PID, not "edge=x"/);
});

test('what a named process and its children use is told by its name, and what is apart is in no sum', async () => {
  const child = spawn('sh', ['-c', 'while :; do :; done & while :; do :; done'], { detached: true, stdio: 'ignore' });
  try {
    const counted = new ProcessMeter([{ name: 'busy', pid: child.pid }]);
    while (counted.cpu().of.busy < 0.05) await new Promise((resolve) => setTimeout(resolve, 10));
    const { user, system, of, apart } = counted.cpu();
    assert.equal(apart, undefined);
    assert.ok(of.busy >= 0.05 && user + system >= 0.05);
    const beside = new ProcessMeter([{ name: 'me', pid: process.ppid }], [child.pid]).cpu();
    assert.ok(beside.apart >= 0.05);
    assert.deepEqual(Object.keys(beside.of), ['me']);
  } finally {
    process.kill(-child.pid, 'SIGKILL');
  }
});

test('a process that is not there is an error', () => {
  assert.throws(() => new ProcessMeter([2 ** 30]).cpu(), /no process/);
});
