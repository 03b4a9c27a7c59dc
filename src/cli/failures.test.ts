import { describe, expect, test } from 'vitest'
import { GroundswellError } from '../core/index.ts'
import { describeFailure, Interrupted, usageError } from './failures.ts'

const systemError = (code: string, details: object): Error =>
  Object.assign(new Error(`${code}: something, write`), { code, ...details })

describe('whatever is thrown becomes one sentence, a way out and an exit code', () => {
  test('our own errors keep their words', () => {
    const thrown = new GroundswellError('“x” is cut short.', {
      code: 'safetensors/truncated',
      remedy: 'Copy it.',
    })
    expect(describeFailure(thrown)).toEqual({
      code: 'safetensors/truncated',
      message: '“x” is cut short.',
      remedy: 'Copy it.',
      exitCode: 1,
    })
  })

  test('a wrong command line or run file exits with 2, an interruption with 130', () => {
    expect(describeFailure(usageError('x', 'No.')).exitCode).toBe(2)
    expect(describeFailure(new GroundswellError('No.', { code: 'run-file/unknown-key' })).exitCode).toBe(2)
    expect(describeFailure(new Interrupted()).exitCode).toBe(130)
    expect(describeFailure(new Error('wrapped', { cause: new Interrupted() })).exitCode).toBe(130)
  })

  test('a full disk is recognised however deep it lies', () => {
    const full = new GroundswellError('The disk is full: “x” was not written.', { code: 'file/disk-full' })
    const wrapped = new GroundswellError('Could not store a blob.', { code: 'blobs/write', cause: full })
    expect(describeFailure(wrapped)).toMatchObject({
      code: 'file/disk-full',
      message: full.message,
      exitCode: 1,
    })
    const bare = systemError('ENOSPC', { path: '/x/y', syscall: 'write' })
    expect(describeFailure(bare)).toMatchObject({
      code: 'file/disk-full',
      message: 'The disk is full: “/x/y” could not be written.',
    })
  })

  test('a port in use is named, also inside an aggregate', () => {
    const inUse = systemError('EADDRINUSE', { address: '127.0.0.1', port: 4000, syscall: 'listen' })
    expect(describeFailure(new AggregateError([inUse], 'all failed'))).toMatchObject({
      code: 'network/port-in-use',
      message: 'The port is already in use: 127.0.0.1:4000.',
    })
  })

  test('a file where a folder is to be made is no bug', () => {
    const inTheWay = systemError('EEXIST', { path: '/x/y', syscall: 'mkdir' })
    expect(describeFailure(inTheWay)).toMatchObject({
      code: 'file/not-folder',
      message: '“/x/y” is a file, not a folder.',
    })
  })

  test('what ended the work is told, not what failed while it was cleared away', () => {
    const first = new GroundswellError('“x” is cut short.', { code: 'safetensors/truncated' })
    const hiding = (suppressed: unknown): Error =>
      Object.assign(new Error('An error was suppressed during disposal'), {
        ...{ error: new Error('the session is gone'), suppressed },
      })
    expect(describeFailure(hiding(hiding(first)))).toMatchObject({ message: first.message })
    expect(describeFailure(hiding(new TypeError('a'))).message).toBe('Unexpected error: a')
    expect(describeFailure(hiding(new Interrupted())).exitCode).toBe(130)
  })

  test('messages are one line, and a bug says that it is one', () => {
    const failure = describeFailure(new TypeError('a\n  b'))
    expect(failure.message).toBe('Unexpected error: a b')
    expect(failure.remedy).toContain('--debug')
  })

  test('causes that go in circles end', () => {
    const one = new Error('one')
    one.cause = new Error('two', { cause: one })
    expect(describeFailure(one).code).toBe('internal/unexpected')
  })
})
