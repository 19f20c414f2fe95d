// What a run may reach of the file system, the network, and of others' signals and abstract sockets, by Landlock.
//
// A ruleset is built by the reaper and entered by the run, which can never leave it. What the kernel does not know yet is
// left out: `Abi` tells how much there is.
#ifndef SKILLSCALE_LANDLOCK_H_
#define SKILLSCALE_LANDLOCK_H_

#include "descriptor.h"
#include "step_error.h"

namespace skillscale {

class Landlock {
 public:
  // The version of the kernel's interface; 0 when there is none.
  static int Abi();

  // `tcp` leaves TCP alone; without it nothing can be bound or connected to.
  bool Begin(bool tcp, StepError* failure);
  // Restricts nothing but whom signals and abstract sockets reach. False where the kernel cannot.
  bool BeginScope();
  // A path that is missing is left out.
  bool AllowRead(const char* path, StepError* failure);
  bool AllowWrite(const char* path, StepError* failure);
  bool AllowDevices(const char* path, StepError* failure);
  int get() const { return ruleset_.get(); }

  // Between clone and exec: returns whether the calling thread is confined from now on.
  static bool Enter(int ruleset);

 private:
  bool Allow(const char* path, uint64_t access, StepError* failure);

  Descriptor ruleset_;
  uint64_t handled_ = 0;
};

}  // namespace skillscale

#endif  // SKILLSCALE_LANDLOCK_H_
