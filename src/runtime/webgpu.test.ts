/** WebGPU on a software adapter where there is one, else on whatever adapter the machine has. */
import { describe, expect, test } from 'vitest'
import { useSoftwareAdapter } from '../../test/software-adapter.ts'
import { runBackendSuite } from './backend-suite.ts'
import { openBackend } from './open.ts'
import { probeBackends } from './probe.ts'

useSoftwareAdapter()
const [report] = await probeBackends({ names: ['webgpu'] })

describe.skipIf(!report!.available)(
  `the webgpu backend${report!.available ? '' : `: not tested here. ${report!.reason} ${report!.detail}`}`,
  () => {
    runBackendSuite({ make: () => openBackend({ name: 'webgpu' }) })

    test('passes the self-test', () => {
      expect(report!.selfTestMs).toBeGreaterThan(0)
    })
  },
)
