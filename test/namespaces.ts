/**
 * Two houses and a server: network namespaces of Linux in which A and B reach R and never each other, as behind two
 * routers that let nobody in. R has a public address of its own and forwards nothing.
 */
import { execFileSync } from 'node:child_process'

export interface NamespacesInit {
  readonly family?: 'ipv4' | 'ipv6'
  /** The largest packet of the lines A–R and B–R. */
  readonly mtuBytes?: number
}

interface Namespace {
  /** To put before a command that is to run in it. */
  readonly prefix: readonly string[]
  readonly address: string
}

export interface Namespaces extends AsyncDisposable {
  readonly a: Namespace
  readonly b: Namespace
  readonly r: Namespace
}

const plans = {
  ipv4: { flag: '-4', r: '198.51.100.1', whole: 32, net: (n: number) => `10.77.${n}.`, prefix: 24, more: [] },
  ipv6: {
    flag: '-6',
    r: '2001:db8::1',
    whole: 128,
    net: (n: number) => `fd77:${n}::`,
    prefix: 64,
    more: ['nodad'], // an address is otherwise tried for a second before it may be used
  },
} as const

/** Why there can be no namespaces here; undefined if there can. */
export function namespacesMissing(): string | undefined {
  if (process.platform !== 'linux') return 'network namespaces are of Linux'
  if (process.getuid?.() !== 0) return 'only root makes network namespaces'
  const name = `groundswell-${process.pid}-try`
  try {
    ip('netns', 'add', name)
    ip('netns', 'del', name)
  } catch {
    return '`ip netns add` of iproute2 does not work here'
  }
  return undefined
}

let made = 0

/** Makes the three; everything is removed when they are disposed of, or at once when one of the steps fails. */
export function makeNamespaces({ family = 'ipv4', mtuBytes = 1500 }: NamespacesInit = {}): Namespaces {
  const { flag, r, whole, net, prefix, more } = plans[family]
  const number = made++
  const nameOf = (which: string): string => `groundswell-${process.pid}-${number}-${which}`
  const added: string[] = []
  const remove = (): void => {
    // A line is gone with either of its ends.
    for (const name of added.splice(0)) ip('netns', 'del', name)
    process.off('exit', remove)
  }
  process.on('exit', remove)
  try {
    for (const which of ['a', 'b', 'r']) {
      const name = nameOf(which)
      ip('netns', 'add', name)
      added.push(name)
      ip('-n', name, 'link', 'set', 'lo', 'up')
    }
    const server = nameOf('r')
    const forwarding = ['net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding'].map(
      (each) => `/proc/sys/${each}`,
    )
    ip('netns', 'exec', server, 'sh', '-c', `for f in ${forwarding.join(' ')}; do echo 0 > $f; done`)
    ip('-n', server, flag, 'address', 'add', `${r}/${whole}`, 'dev', 'lo', ...more)
    for (const [i, which] of ['a', 'b'].entries()) {
      const [name, line] = [nameOf(which), `to-${which}`]
      const [near, far] = [`${net(i + 1)}2`, `${net(i + 1)}1`]
      ip('link', 'add', 'out', 'netns', name, 'type', 'veth', 'peer', 'name', line, 'netns', server)
      for (const [where, device, address] of [
        [name, 'out', near],
        [server, line, far],
      ] as const) {
        ip('-n', where, 'link', 'set', device, 'mtu', `${mtuBytes}`, 'up')
        ip('-n', where, flag, 'address', 'add', `${address}/${prefix}`, 'dev', device, ...more)
      }
      ip('-n', name, flag, 'route', 'add', 'default', 'via', far)
    }
  } catch (thrown) {
    remove()
    throw thrown
  }
  const at = (which: string, address: string): Namespace => ({
    prefix: ['ip', 'netns', 'exec', nameOf(which)],
    address,
  })
  return {
    a: at('a', `${net(1)}2`),
    b: at('b', `${net(2)}2`),
    r: at('r', r),
    [Symbol.asyncDispose]: async () => remove(),
  }
}

function ip(...command: string[]): void {
  execFileSync('ip', command, { stdio: ['ignore', 'ignore', 'pipe'] })
}
