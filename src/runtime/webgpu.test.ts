/**
 * WebGPU on a software adapter: the one that Debian's chromium brings along (SwiftShader), or whatever real adapter
 * the machine has. The variable that names it must be set before the first session asks for an adapter.
 */
import { existsSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { runBackendSuite } from './backend-suite.ts'
import { openBackend } from './open.ts'
import { probeBackends } from './probe.ts'

const softwareAdapter = '/usr/lib/chromium/vk_swiftshader_icd.json'
if (process.env.VK_ICD_FILENAMES === undefined && existsSync(softwareAdapter)) {
  process.env.VK_ICD_FILENAMES = softwareAdapter
}
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
