/** What commander makes of each command's options, by their names in camel case. */

export interface DemoCommandLine {
  readonly data?: string
  readonly out: string
  readonly rounds?: number
}

/** One of `replicas` disjoint shares of the training data. */
export interface DataShare {
  readonly replica: number
  readonly replicas: number
}

export interface TrainCommandLine {
  readonly data?: string
  readonly steps?: number
  readonly batchSize?: number
  readonly sequenceLength?: number
  readonly backend?: string
  readonly threads?: number
  readonly out?: string
  readonly restart?: boolean
  readonly share?: DataShare
}

export interface HostCommandLine extends Omit<TrainCommandLine, 'restart' | 'share'> {
  readonly listen?: readonly string[]
  readonly announce?: readonly string[]
  readonly relay?: readonly string[]
  readonly also?: readonly string[]
  readonly up?: string
  readonly down?: string
  readonly metrics?: string
  readonly log?: string
  readonly identity?: string
  readonly owner?: readonly string[]
  readonly home?: string
  readonly host?: string
  readonly port?: number
}

export interface StatusCommandLine {
  readonly watch?: boolean
}

export interface ContributionsCommandLine {
  readonly peer?: string
  readonly csv?: string
}

/** Times in seconds. */
export interface LimitsCommandLine {
  readonly rounds?: number
  readonly minimumPeers?: number
  readonly maximumPeers?: number
  readonly quorum?: number
  readonly warmup?: number
  readonly grace?: number
  readonly maxRound?: number
  readonly vanishAfter?: number
}

export interface ReplayCommandLine {
  readonly from?: number
  readonly to?: number
  readonly peer?: string
}

export interface RelayCommandLine {
  readonly port: number
  readonly listen?: readonly string[]
  readonly announce?: readonly string[]
  readonly bytesPerDay?: number
  readonly rate?: number
  readonly reservations?: number
  readonly metrics?: string
  readonly home?: string
}

export interface JoinCommandLine {
  readonly listen?: readonly string[]
  readonly announce?: readonly string[]
  readonly relay?: readonly string[]
  readonly up?: number
  readonly down?: number
  readonly metrics?: string
  readonly name?: string
  readonly backend: string
  readonly threads: number
  readonly home?: string
  readonly out?: string
}

export interface GenerateCommandLine {
  readonly tokens: number
  readonly temperature: number
  readonly topK?: number
  readonly topP?: number
  readonly seed: number
  readonly backend: string
  readonly threads: number
}

export interface ScoreCommandLine {
  readonly text?: string
  readonly file?: string
  readonly backend: string
  readonly threads: number
}

export interface ExportCommandLine {
  readonly out: string
  readonly dtype: string
}

export interface InitCommandLine {
  readonly data: string
}

export interface SimulateCommandLine {
  readonly peers?: number
  readonly rounds: number
  readonly seed: number
  readonly method: string
  readonly innerSteps?: number
  readonly parameters?: number
  readonly methodBytes?: number
  readonly stepMs: number
  readonly speedSpread: number
  readonly up: number
  readonly down: number
  readonly hostUp: number
  readonly hostDown: number
  readonly reachable: number
  readonly latency: number
  readonly churn: number
  readonly drop: number
  readonly quorum: number
  readonly grace: number
  readonly staleness: number
  readonly train: 'none' | 'toy' | 'llama'
  readonly data?: string
  readonly backend: string
  readonly threads: number
  readonly trace?: string
}
