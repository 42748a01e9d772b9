-- Holds a request until a pod is ready: the autoscaler sees it, and starts one where there is none.
-- A pod that DNS has just shown counts as up until its first check; only one that passed a check is ready.
local function ready(pods)
  for _, pod in pairs(pods) do
    local stats = pod:get_stats()
    if stats.status == "UP" and stats.check_status:find("L7OK") then
      return true
    end
  end
end

core.register_action("await_pod", { "http-req" }, function(txn, seconds)
  local backend = core.backends[txn.f:be_name()]
  local last = core.now().sec + tonumber(seconds)
  while not ready(backend.servers) and core.now().sec < last do
    core.msleep(200)
  end
end, 1)
