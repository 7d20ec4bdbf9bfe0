

# Appended to every scenario, by either driver.
import codesandbox_vm
codesandbox_vm.finish(machine)
