/**
 * The command line: every command with its options, and nothing of what they do. A command's code is loaded when it
 * runs, so that `--help` and `init` answer at once.
 */
import { Command, Option } from 'commander'
import {
  above0,
  atLeast1,
  belowOne,
  bytes,
  count,
  dataShare,
  metricsAt,
  nonnegative,
  port,
  positive,
  rate,
  rateText,
  several,
  share,
  shareFrom0,
} from './arguments.ts'
import type {
  ContributionsCommandLine,
  DemoCommandLine,
  ExportCommandLine,
  GenerateCommandLine,
  HostCommandLine,
  InitCommandLine,
  JoinCommandLine,
  LimitsCommandLine,
  RelayCommandLine,
  ReplayCommandLine,
  ScoreCommandLine,
  SimulateCommandLine,
  StatusCommandLine,
  TrainCommandLine,
} from './command-lines.ts'
import type { CommandContext } from './context.ts'

const backends = ['auto', 'cpu', 'cuda', 'webgpu', 'wasm']

export function createProgram(context: CommandContext): Command {
  const program = new Command('groundswell')
    .description('Trains language models on machines that nobody owns together.')
    .version('0.1.0', '--version')
    .option('--json', 'print JSON lines instead of text')
    .option('--debug', 'print the stack of an error')
    .addOption(new Option('--leave-with-parent', 'stop when standard input closes').hideHelp())
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      // Help and the version.
      writeOut: (text) => {
        context.output.text(text)
        context.output.event({ event: 'done', text: text.trimEnd() })
      },
      // Help where a command is missing. What is wrong is reported once, by main.
      writeErr: (text) => context.output.text(text),
      outputError: () => {},
    })
    .exitOverride()
    .showSuggestionAfterError()

  program
    .command('demo')
    .description(
      'one host and three peers on this machine train a small model together, through a crash and a late joiner',
    )
    .option('--data <path>', 'folder or file to learn from, instead of the texts that came with the install')
    .option('--out <folder>', 'where the checkpoint goes (default: checkpoints/demo, or demo-2 … beside it)')
    .option('--rounds <n>', 'rounds to train', positive)
    .action(async (options: DemoCommandLine) => (await import('./commands/demo.ts')).demo(context, options))

  withRunOptions(program.command('train'))
    .description('train on this machine alone, and resume where an interrupted run stopped')
    .argument('<run>', 'run file')
    .option('--restart', 'begin again, replacing the checkpoint in the output folder')
    .option('--share <i/n>', 'train on one of n disjoint shares of the data only', dataShare)
    .action(async (run: string, options: TrainCommandLine) =>
      (await import('./commands/train.ts')).train(context, run, options),
    )

  withRunOptions(program.command('host'))
    .description('coordinate a swarm and print the link that lets others join')
    .argument('<run>', 'run file')
    .option('--host <address>', 'address to listen on')
    .option('--port <n>', 'port to listen on; 0 for any free one', port)
    .option('--home <folder>', 'where the host keeps its key, its log and its blobs')
    .option(
      '--listen <address>',
      'multiaddress to listen on, instead of --host and --port; repeatable',
      several,
    )
    .option('--announce <address>', 'address to tell others, as behind a port forward; repeatable', several)
    .option('--relay <address>', 'relay through which this host is reached; repeatable', several)
    .option('--also <address>', 'where a second host of this run is reached; repeatable', several)
    .option('--up <rate>', 'most to send, such as 10Mb/s or 2MB/s', rateText)
    .option('--down <rate>', 'most to receive', rateText)
    .option('--metrics <port>', 'serve metrics for Prometheus, on loopback unless ADDRESS:PORT', metricsAt)
    .option('--log <place>', 'nats://HOST:4222: keep log and blobs there, so that another host can take over')
    .option('--identity <file>', 'the key of the host, shared by two hosts of one run')
    .option('--owner <peerId>', 'who may pause, resume, end and change the run as well; repeatable', several)
    .action(async (run: string, options: HostCommandLine) =>
      (await import('./commands/host.ts')).host(context, run, options),
    )

  program
    .command('join')
    .description('train with a swarm')
    .argument('<link>', 'what “groundswell host” printed')
    .addOption(new Option('--backend <name>', 'what computes').choices(backends).default('auto'))
    .option('--threads <n>', 'threads to compute with; 0 for as many as there are cores', count, 0)
    .option('--name <name>', 'what others see this peer called')
    .option('--home <folder>', 'where this peer keeps its key and what it fetched')
    .option('--out <folder>', 'keep the final checkpoint here')
    .option('--listen <address>', 'multiaddress at which other peers reach this one; repeatable', several)
    .option('--announce <address>', 'address to tell others, as behind a port forward; repeatable', several)
    .option('--relay <address>', 'relay through which this peer is reached; repeatable', several)
    .option('--up <rate>', 'most to send, such as 10Mb/s or 2MB/s', rate)
    .option('--down <rate>', 'most to receive', rate)
    .option('--metrics <port>', 'serve metrics for Prometheus, on loopback unless ADDRESS:PORT', metricsAt)
    .action(async (link: string, options: JoinCommandLine) =>
      (await import('./commands/join.ts')).join(context, link, options),
    )

  program
    .command('status')
    .description('how a run stands: phase, round, members, checkpoint, refusals')
    .argument('<link>', 'what “groundswell host” printed')
    .option('--watch', 'look again every second until it is finished, also while the host is away')
    .action(async (link: string, options: StatusCommandLine) =>
      (await import('./commands/status.ts')).status(context, link, options),
    )

  program
    .command('contributions')
    .description('who contributed what to a run, every signature checked here')
    .argument('<link>', 'what “groundswell host” printed')
    .option('--peer <peerId>', 'only those of one peer')
    .option('--csv <file>', 'write them as a table as well')
    .action(async (link: string, options: ContributionsCommandLine) =>
      (await import('./commands/contributions.ts')).contributions(context, link, options),
    )

  const ownerCommands = {
    pause: 'let a run stand still once the open round is merged',
    resume: 'let a paused run go on',
    end: 'let the open round of a run be its last',
  } as const
  for (const action of ['pause', 'resume', 'end'] as const) {
    program
      .command(action)
      .description(ownerCommands[action])
      .argument('<home>', 'home folder of its host')
      .action(async (home: string) => (await import('./commands/owner.ts')).control(context, home, action))
  }

  program
    .command('limits')
    .description('change the rules of a run while it goes on')
    .argument('<home>', 'home folder of its host')
    .option('--rounds <n>', 'rounds after which it is finished', positive)
    .option('--minimum-peers <n>', 'peers to begin with', positive)
    .option('--maximum-peers <n>', 'peers at a time', positive)
    .option('--quorum <share>', 'share of a round’s peers that is enough', share)
    .option('--warmup <seconds>', 'how long to wait for those still fetching', nonnegative)
    .option('--grace <seconds>', 'how long a round stays open after its quorum, at least', nonnegative)
    .option('--grace-share <share>', 'and at least this share of the time that the quorum took', shareFrom0)
    .option('--max-round <seconds>', 'longest round', nonnegative)
    .option('--vanish-after <seconds>', 'silence after which a peer counts as gone', nonnegative)
    .action(async (home: string, options: LimitsCommandLine) =>
      (await import('./commands/owner.ts')).limits(context, home, options),
    )

  program
    .command('replay')
    .description('tell the history of a run from its log, and check it')
    .argument('<log>', 'home folder of a host, its log file, or nats://HOST:4222/RUN')
    .option('--from <n>', 'first entry to tell', count)
    .option('--to <n>', 'last entry to tell', count)
    .option('--peer <peerId>', 'only what one peer did')
    .action(async (log: string, options: ReplayCommandLine) =>
      (await import('./commands/replay.ts')).replay(context, log, options),
    )

  program
    .command('relay')
    .description('let peers behind routers reach each other through this machine')
    .option('--port <n>', 'port to listen on; 0 for any free one', port, 4001)
    .option('--listen <address>', 'multiaddress to listen on, instead of --port; repeatable', several)
    .option('--announce <address>', 'address to tell others; repeatable', several)
    .option('--bytes-per-day <size>', 'most for each peer in a day, such as 20GB', bytes)
    .option('--rate <rate>', 'most for each peer, such as 10Mb/s', rate)
    .option('--reservations <n>', 'peers that can be reached at a time', positive)
    .option('--metrics <port>', 'serve metrics for Prometheus, on loopback unless ADDRESS:PORT', metricsAt)
    .option('--home <folder>', 'where the relay keeps its key')
    .action(async (options: RelayCommandLine) =>
      (await import('./commands/relay.ts')).relay(context, options),
    )

  program
    .command('generate')
    .description('continue a text')
    .argument('<checkpoint>', 'folder of a Llama checkpoint')
    .argument('<prompt>', 'text to continue')
    .option('--tokens <n>', 'most tokens to add', positive, 200)
    .option('--temperature <t>', '0 for the likeliest token every time', nonnegative, 0.8)
    .option('--top-k <k>', 'choose among the k likeliest', positive)
    .option('--top-p <p>', 'choose among the likeliest that make up this share', share)
    .option('--seed <n>', 'the same seed gives the same text', count, 0)
    .addOption(new Option('--backend <name>', 'what computes').choices(backends).default('auto'))
    .option('--threads <n>', 'threads to compute with; 0 for as many as there are cores', count, 0)
    .action(async (checkpoint: string, prompt: string, options: GenerateCommandLine) =>
      (await import('./commands/generate.ts')).generateText(context, checkpoint, prompt, options),
    )

  program
    .command('score')
    .description('log-probabilities of the tokens of a text, and bits per byte')
    .argument('<checkpoint>', 'folder of a Llama checkpoint')
    .option('--text <text>', 'text to score')
    .option('--file <path>', 'file to score')
    .addOption(new Option('--backend <name>', 'what computes').choices(backends).default('auto'))
    .option('--threads <n>', 'threads to compute with; 0 for as many as there are cores', count, 0)
    .action(async (checkpoint: string, options: ScoreCommandLine) =>
      (await import('./commands/score.ts')).scoreText(context, checkpoint, options),
    )

  program
    .command('export')
    .description('write a checkpoint as a clean folder that transformers loads, without training state')
    .argument('<checkpoint>', 'folder of a Llama checkpoint')
    .requiredOption('--out <folder>', 'new folder to write')
    .addOption(new Option('--dtype <type>', 'type of the weights').choices(['float32']).default('float32'))
    .action(async (checkpoint: string, options: ExportCommandLine) =>
      (await import('./commands/export.ts')).exportCheckpoint(context, checkpoint, options),
    )

  program
    .command('simulate')
    .description('a run with made-up peers on a made-up clock: how long, how much work, what travels')
    .option('--peers <n>', 'peers in the run (default: 100, or 4 that train)', positive)
    .option('--rounds <n>', 'rounds to run', positive, 20)
    .option('--seed <n>', 'the same seed gives the same run', count, 0)
    .option('--method <name>', 'what peers exchange, with the defaults of a run file', 'diloco')
    .option('--inner-steps <n>', 'inner steps of a middling peer in a round (H)', positive)
    .option('--parameters <n>', 'parameters of the model (default: 3300000)', positive)
    .option(
      '--method-bytes <b>',
      'bytes per parameter of one update, instead of what the method needs',
      above0,
    )
    .option('--step-ms <ms>', 'time of one inner step on a middling peer', above0, 1000)
    .option('--speed-spread <x>', 'how many times as fast as the slowest the fastest peer is', atLeast1, 4)
    .option('--up <mbit>', 'line of a middling peer to the others, in Mb/s', above0, 20)
    .option('--down <mbit>', 'line of a middling peer from the others, in Mb/s', above0, 100)
    .option('--host-up <mbit>', 'the same of the host', above0, 1000)
    .option('--host-down <mbit>', 'the same of the host', above0, 1000)
    .option('--reachable <share>', 'share of the peers’ lines that others can fetch from', shareFrom0, 0.5)
    .option('--latency <ms>', 'one way between a middling peer and the host', nonnegative, 40)
    .option(
      '--churn <share>',
      'share of the peers that go in the time of a round, and come back',
      belowOne,
      0,
    )
    .option('--drop <share>', 'share of the updates that are made and never arrive', belowOne, 0)
    .option('--quorum <share>', 'share of a round’s peers whose updates start the grace period', share, 0.67)
    .option('--grace <s>', 'seconds that a round stays open after its quorum', nonnegative, 10)
    .option('--staleness <n>', 'rounds by which an update may be late', count, 1)
    .addOption(
      new Option('--train <what>', 'train for real in it').choices(['none', 'toy', 'llama']).default('none'),
    )
    .option('--data <path>', 'text for --train llama, instead of the texts that came with the install')
    .addOption(new Option('--backend <name>', 'what computes').choices(backends).default('auto'))
    .option('--threads <n>', 'threads to compute with; 0 for as many as there are cores', count, 0)
    .option('--trace <file>', 'write every event of the run to this file, one JSON object per line')
    .action(async (options: SimulateCommandLine) =>
      (await import('./commands/simulate.ts')).simulateRun(context, options),
    )

  program
    .command('doctor')
    .description('what this machine can do, and why not more')
    .action(async () => (await import('./commands/doctor.ts')).doctor(context))

  program
    .command('probe-backends', { hidden: true })
    .description('test backends in a process of their own')
    .argument('<names...>')
    .action(async (names: string[]) => (await import('./commands/doctor.ts')).probe(context, names))

  program
    .command('init')
    .description('write a run file with every setting and its meaning')
    .argument('[file]', 'run file to write', 'run.yaml')
    .option('--data <path>', 'folder or file to learn from', './data')
    .action(async (file: string, options: InitCommandLine) =>
      (await import('./commands/init.ts')).init(context, file, options),
    )

  return program
}

/** Options that `train` and `host` take over the run file. */
function withRunOptions(command: Command): Command {
  return command
    .option('--data <path>', 'folder or file to learn from')
    .option('--steps <n>', 'steps to train', positive)
    .option('--batch-size <n>', 'sequences in a batch', positive)
    .option('--sequence-length <n>', 'tokens in a sequence', positive)
    .addOption(new Option('--backend <name>', 'what computes').choices(backends))
    .option('--threads <n>', 'threads to compute with; 0 for as many as there are cores', count)
    .option('--out <folder>', 'where the checkpoint goes')
}
