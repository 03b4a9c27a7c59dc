/** The log of a run for reading, from wherever it is kept. */
import { join } from 'node:path'
import { GroundswellError } from '../core/index.ts'
import { connectNats, type Log, natsLog, sqliteLog } from '../run/index.ts'
import { absolute, type CommandContext } from './context.ts'
import { usageError } from './failures.ts'

export const logFile = 'log.sqlite'

/** @param place a home folder, a log file, or nats://HOST:PORT/RUN */
export async function openLogToRead(context: CommandContext, place: string): Promise<Log> {
  if (isNats(place)) {
    const run = /\/\/[^/]+\/([A-Za-z0-9_-]+)\/?$/.exec(place)?.[1]
    if (run === undefined) {
      throw usageError(
        'log',
        'The address of the log names no run.',
        'Write nats://HOST:4222/RUN, with the id that “groundswell status” prints.',
      )
    }
    const connection = await connectNats(place)
    const log = await natsLog({ connection, run, mustExist: true }).catch(async (thrown: unknown) => {
      await connection.close()
      throw thrown
    })
    return {
      ...log,
      close: async () => {
        await log.close()
        await connection.close()
      },
    }
  }
  const given = absolute(context, place)
  const inFolder = join(given, logFile)
  const path = (await context.files.exists(inFolder)) ? inFolder : given
  const [entry] = await context.files.list(path)
  if (entry === undefined || entry.path !== path || entry.sizeBytes === 0) {
    throw new GroundswellError(`There is no log of a run at “${given}”.`, {
      code: 'log/not-found',
      remedy: 'Name the home folder of a host, or its log.sqlite.',
    })
  }
  return sqliteLog(path, { readOnly: true })
}

function isNats(place: string): boolean {
  return /^(nats|tls):\/\//.test(place)
}
